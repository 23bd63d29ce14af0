"""The built-in language model: a toy that needs no key and no network.

It serves SmolLM2-135M-Instruct on the loopback interface, as OpenAI's API does, so
that DSPex can be tried and tested with real inference. Nobody should want its
answers: it extracts from short sentences and fails at most else.

It imports the contracts at most, never DSPy. Start reading at `__main__`.
"""
