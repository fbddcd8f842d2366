from oodcert.jobs import run_evaluation

run_evaluation(snakemake, "attack_l2")
