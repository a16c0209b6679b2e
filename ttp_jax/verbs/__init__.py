"""The commands of main.py, one module each: here library, files and printing meet."""
