"""The recorder: completions in OpenAI's shapes, each of which becomes a branch of a session."""
