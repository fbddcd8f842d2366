# Downloads, and the image sets made of them: training, outlier exposure, ID test and OOD test sets.


rule download:
    output:
        f"{DOWNLOADS}/{{file}}",
    log:
        "logs/downloads/{file}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, remote_files())) or "none",
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
    message:
        "Downloading {wildcards.file}"
    script:
        "../scripts/download.py"


rule training_sets:
    input:
        training_files(config),
    output:
        f"{DATA}/id_train.npz",
        f"{DATA}/outliers.npz",
        ID_TEST,
    log:
        f"{LOGS}/training_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/training_sets.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        data={
            key: config["data"][key]
            for key in (
                "id",
                "outliers",
                "own",
                "image_shape",
                "num_classes",
                "jpeg_quality",
            )
        },
        data_mirror=config["data_mirror"],
    message:
        "Building the ID sets and the outliers of {config[profile]}"
    script:
        "../scripts/image_sets.py"


rule ood_sets:
    input:
        ood_files(config),
    output:
        OOD_TESTS,
    log:
        f"{LOGS}/ood_sets.log",
    benchmark:
        f"{LOGS}/benchmarks/ood_sets.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        data={
            key: config["data"][key]
            for key in (
                "id",
                "outliers",
                "ood",
                "own",
                "image_shape",
                "test_images",
                "jpeg_quality",
            )
        },
        data_mirror=config["data_mirror"],
    message:
        "Building the OOD sets of {config[profile]}"
    script:
        "../scripts/image_sets.py"
