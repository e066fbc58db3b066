"""Learning from data sets: prompts, answers, rewards, metrics, SFT, GRPO, evaluation.

Never imports bpy nor generator. The way of a run goes forward through these modules, in this order;
none imports a later one:

    answers          from a completion to triplets
    assignment       which prediction is matched to which truth
    rewards          what they earn
    grpo_losses      which settings of the loss make sense
    user_code        modules of the user's own, loaded
    config           what a run is to do: the configuration, read
    parquet_files    tables in parquet, read with bounds
    parquet_dataset  an export in parquet as a data set
    fresh_dataset    data that are rendered meanwhile, as a data set
    augment          the same pictures mirrored, reversed, renumbered
    images           the pictures of a sample
    prompts          a question in words
    scene_facts      what is true of two pictures
    traces           true reasoning, for the cold start
    pairs            which questions are asked, in which order
    rows             a question as the row that a trainer reads
    episodes         questions one at a time, and their reward
    training_rows    all rows of a run
    weights          whether weights are those of their model
    models           models and adapters, loaded
    picture_size     at which size a model sees pictures
    tiny_models      models built on the spot
    sharding         weights that are divided among processes
    trl_arguments    the configuration as TRL wants it
    seen_scenes      which scenes a model was trained on
    reward_logging   how the policy answers, logged
    run_folder       the folder of a run, begun or gone on with
    custom_rewards   rewards of the user's own
    bootstrap        intervals of a mean
    replay           what a prediction leads to
    metrics          how right answers are
    predictions      answers in files
    metrics_report   all metrics of a file, with intervals
    backends         what a model is asked
    local_backend    a model on this machine
    validation       a split that is asked while training
    checks           what is refused before weights are loaded
    memory           how much memory a training takes
    skeletons        what is known of a model without its weights
    run_plan         tokens, steps and memory of a run, before it begins
    plan_tables      the same as tables
    curriculum       what a policy is asked next, by its own results
    fresh_log        how a renderer and a training get on
    fresh_renderer   what renders fresh data, started and watched
    initial_model    the model that the run begins with
    callbacks        speed, log, progress, a stop if it went wrong
    full_disk        what becomes of a run when the disk is full
    trace_checker    reasoning read and verified
    scene_rewards    further rewards from the ground truth
    vllm_prompts     prompts as vLLM is to read them
    launch           these programs under accelerate and torchrun
    sft              supervised fine-tuning
    grpo             reinforcement learning
"""
