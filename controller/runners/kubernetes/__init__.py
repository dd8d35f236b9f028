"""One Kubernetes Job a job: the API client, the manifest, and what the state of a Job and its pod means."""
