"""Captures of Linux's IPsec: files of packets, SAs and policies."""
