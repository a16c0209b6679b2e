"""The commands of main.py, one module each, which combine the library, files and printing."""

import os

# TensorFlow only feeds data here, so its notes about CPU features are noise. Set before its import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # suppresses two start-up lines
