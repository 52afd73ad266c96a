"""`/v1`: the API for programs of today. JSON, resources, pages with cursors, errors as application/problem+json."""
