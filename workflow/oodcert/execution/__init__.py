"""How a run is carried out: its cost, its shards and partial results, and the body of every job."""
