from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from oodcert.execution.evaluate import run_evaluation

run_evaluation(snakemake)
