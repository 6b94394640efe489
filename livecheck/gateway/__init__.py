"""What only the checks of the GGUF gateway need."""
