"""IKEv2 as bytes: numbers, payloads, messages, traffic selectors."""
