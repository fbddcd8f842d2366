from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from oodcert.execution.jobs import run_evaluation

run_evaluation(snakemake, "sanity.attack_linear")
