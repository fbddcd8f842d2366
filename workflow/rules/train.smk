# The components that the methods are made of: trained, or imported.


rule train:
    input:
        sets=[f"{DATA}/id_train.npz", f"{DATA}/outliers.npz"],
        components=lambda wildcards: weights(
            needed_components(wildcards.component, CONFIG.training)
        ),
        code=lambda wildcards: code_of(
            needed_components(wildcards.component, CONFIG.training)
        ),
    output:
        weights=f"{RESULTS}/models/{{component}}.safetensors",
        record=f"{RESULTS}/models/{{component}}.json",
        curve=f"{RESULTS}/evidence/training/{{component}}.parquet",
        curve_record=f"{RESULTS}/evidence/training/{{component}}.json",
    log:
        f"{LOGS}/train/{{component}}.log",
    benchmark:
        f"{LOGS}/benchmarks/train/{{component}}.tsv"
    wildcard_constraints:
        component="|".join(TRAINED) or "none",
    priority: 2  # everything waits for training
    conda:
        ENVIRONMENT
    threads: CONFIG.threads
    resources:
        mem_mb=growing(6000 + CUDA_MB),
        runtime=growing(1440),
        gpu=GPU,
    params:
        **NETWORK_JOB,
        networks=lambda wildcards: networks_of(
            [
                wildcards.component,
                *needed_components(wildcards.component, CONFIG.training),
            ],
            CONFIG,
        ),
        settings=lambda wildcards: CONFIG.training[wildcards.component].as_json(),
    message:
        "Training {wildcards.component}"
    script:
        "../scripts/train.py"


rule import_component:
    input:
        weights=lambda wildcards: str(IMPORTS[wildcards.component].file),
        code=lambda wildcards: code_of([wildcards.component]),
    output:
        weights=f"{RESULTS}/models/{{component}}.safetensors",
        record=f"{RESULTS}/models/{{component}}.json",
    log:
        f"{LOGS}/import/{{component}}.log",
    benchmark:
        f"{LOGS}/benchmarks/import/{{component}}.tsv"
    wildcard_constraints:
        component="|".join(IMPORTS) or "none",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        network=lambda wildcards: IMPORTS[wildcards.component].network,
        image_shape=NETWORK_JOB["image_shape"],
        num_classes=NETWORK_JOB["num_classes"],
    message:
        "Importing {wildcards.component}"
    script:
        "../scripts/import_component.py"
