"""What decides: the lifecycle, its journalled story, and the controller that carries it out."""
