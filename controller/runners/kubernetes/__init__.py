"""One Kubernetes Job per job: the API client, the manifest, and the diagnosis of the states of Jobs and pods."""
