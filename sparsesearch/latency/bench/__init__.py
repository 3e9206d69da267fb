"""The dense and the sparse model of a schedule, timed side by side.

`python -m sparsesearch.latency.bench` needs torch and timm alone. From Python:
`compare` of `sparsesearch.latency.bench.compare`.
"""
