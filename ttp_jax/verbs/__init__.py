"""The commands of main.py, one module each: here library, files and printing meet."""

import os

# TensorFlow only feeds data here; its notes about CPU features are noise. Before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # suppresses two start-up lines
