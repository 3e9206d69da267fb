"""Compare the latency of the dense and the sparse model of a schedule.

`python -m sparsesearch.latency.bench` requires only torch, timm and pydantic. From Python, use
`sparsesearch.latency.bench.compare.compare`.
"""
