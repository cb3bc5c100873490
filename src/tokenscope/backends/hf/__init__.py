"""Models in Hugging Face format, through transformers: load, probe, run, look inside."""
