# Training of the parts that the methods are made of.


rule train:
    input:
        sets=[f"{DATA}/id_train.npz", f"{DATA}/outliers.npz"],
        parts=lambda wildcards: weights(
            needed_parts(wildcards.part, config["training"])
        ),
    output:
        weights=f"{RESULTS}/models/{{part}}.safetensors",
        record=f"{RESULTS}/models/{{part}}.json",
        curve=f"{RESULTS}/evidence/training/{{part}}.parquet",
        curve_record=f"{RESULTS}/evidence/training/{{part}}.json",
    log:
        f"{LOGS}/train/{{part}}.log",
    benchmark:
        f"{LOGS}/benchmarks/train/{{part}}.tsv"
    priority: 2  # everything waits for training
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        **NETWORK_JOB,
        networks=lambda wildcards: networks(
            [wildcards.part, *needed_parts(wildcards.part, config["training"])]
        ),
        settings=lambda wildcards: config["training"][wildcards.part],
    message:
        "Training {wildcards.part}"
    script:
        "../scripts/train.py"
