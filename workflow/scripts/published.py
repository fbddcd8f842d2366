from oodcert.jobs import run_evaluation

run_evaluation(snakemake, "published.published")
