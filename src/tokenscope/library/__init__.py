"""The models at hand: which there are, what each is, what can be fetched, what fits here."""
