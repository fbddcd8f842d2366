from oodcert.jobs import run_evaluation

run_evaluation(snakemake, "certify_id")
