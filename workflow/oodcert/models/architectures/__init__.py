"""The architectures of networks, one file each. oodcert.models.networks builds them by the names of the config."""
