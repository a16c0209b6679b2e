"""The paper's tables and figures: run records, what they show, published numbers."""
