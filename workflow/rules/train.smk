# The parts that the methods are made of: trained, or imported.


rule train:
    input:
        sets=[f"{DATA}/id_train.npz", f"{DATA}/outliers.npz"],
        parts=lambda wildcards: weights(
            needed_components(wildcards.part, config["training"])
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
    wildcard_constraints:
        part="|".join(TRAINED) or "none",
    priority: 2  # everything waits for training
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=growing(6000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **NETWORK_JOB,
        networks=lambda wildcards: networks(
            [wildcards.part, *needed_components(wildcards.part, config["training"])]
        ),
        settings=lambda wildcards: config["training"][wildcards.part],
    message:
        "Training {wildcards.part}"
    script:
        "../scripts/train.py"


rule import_component:
    input:
        lambda wildcards: str(IMPORTS[wildcards.part].file),
    output:
        weights=f"{RESULTS}/models/{{part}}.safetensors",
        record=f"{RESULTS}/models/{{part}}.json",
    log:
        f"{LOGS}/import/{{part}}.log",
    benchmark:
        f"{LOGS}/benchmarks/import/{{part}}.tsv"
    wildcard_constraints:
        part="|".join(IMPORTS) or "none",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        network=lambda wildcards: IMPORTS[wildcards.part].network,
        image_shape=config["data"]["image_shape"],
        num_classes=config["data"]["num_classes"],
    message:
        "Importing {wildcards.part}"
    script:
        "../scripts/import_component.py"
