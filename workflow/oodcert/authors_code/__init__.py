"""The published protocol: what the authors' public code computes, flag by flag, on models that were trained here.

Facts about their code at commit 744ed602 of FraunhoferIKS/distro, written anew; docs/defects.md explains each flag.
"""
