"""What the authors' public code computes, with each of its departures from the mathematics as a flag.

It runs on models that were trained here. The facts are those of commit 744ed602 of FraunhoferIKS/distro. The code is
written anew. docs/defects.md explains each flag.

Source: https://github.com/FraunhoferIKS/distro
"""
