"""The second front door: an HTTP API like OpenAI's, and a page for the browser."""
