"""Makes TokenScope's bundled model: corpus, tokenizer, weights and their figures."""
