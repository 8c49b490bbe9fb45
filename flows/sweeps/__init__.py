"""Many runs at once: the flow, where its tasks run, and the table of what came of them."""
