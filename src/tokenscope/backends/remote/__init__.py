"""Models behind a server of somebody else's: llama.cpp, vLLM, Ollama and their likes, over HTTP."""
