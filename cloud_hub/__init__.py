"""The hub: store, watch, retrain, verify, roll out."""
