"""The registry: models, versions, aliases, deployments, operations and files. The only process that remembers.

Inside: `rules` (pure: what may be stored), `catalog` (the SQL behind a seam), `artifacts` (the files behind a seam),
`uploads` (files on their way in), `changes` (wakes who waits for news) and one `*_servicer` per gRPC service. All of it
is put together in `main` and nowhere else. Other rooms reach it over gRPC only.
"""
