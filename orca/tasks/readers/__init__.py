"""Files of other formats as plain arrays; a broken one is told with what was expected and what came."""
