from oodcert.jobs import run_evaluation

run_evaluation(snakemake, "l2.certify_l2")
