# The image sets: training, outlier exposure, ID test and OOD test sets.


rule image_sets:
    output:
        f"{DATA}/id_train.npz",
        f"{DATA}/outliers.npz",
        ID_TEST,
        OOD_TESTS,
    log:
        f"{LOGS}/image_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/image_sets.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **config["data"],
    message:
        "Building the image sets of {config[profile]}"
    script:
        "../scripts/image_sets.py"
