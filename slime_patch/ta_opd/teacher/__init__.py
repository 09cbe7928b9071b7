"""The teacher behind an SGLang server: what is asked, how it is asked, and what came back of it.

request -> wire (with exact_support) -> client (servers, quarantine) -> wire (answer, nested_rows) -> signal.
The client needs aiohttp, msgspec and tenacity, on first use; `signal` needs numpy alone.
"""
