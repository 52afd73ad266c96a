"""What Python asks of shards, by what it is about. Engine is all of them; see core/engine.pyi."""
