"""JSON Schema, compiled and bounded."""
