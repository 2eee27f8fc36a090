"""Agreement in language models: prompts, grammar and tiny model, last token, layer sweep, generation."""
