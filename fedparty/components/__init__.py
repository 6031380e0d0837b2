"""The built-in job components, and where components are found by name.

Owns the components themselves. A component is a class with one public method per role, each taking a
`fedparty.context.Context`; it knows nothing of processes, proxies or services.
"""
