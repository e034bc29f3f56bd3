//! Jobs as their callers see them, and across restarts.

use super::*;
use crate::testing;
use crate::tracker::End;

fn config(dir: &Path) -> TunerConfig {
    let (base, vocabulary) = testing::write_base(dir);
    TunerConfig {
        dir: dir.join("tuning"),
        models: dir.to_path_buf(),
        base,
        vocabulary,
        place: Place::Processor { threads: 1 },
        queue_max: 2,
        wandb: None,
        tracker: None,
    }
}

fn examples(dir: &Path) -> String {
    fs_err::read_to_string(testing::write_examples(dir)).unwrap()
}

fn request(tuner: &Tuner, steps: u32) -> TuneRequest {
    let mut settings = tuner.defaults(None, None).unwrap();
    settings.micro_batch = 1;
    settings.epochs = 1;
    settings.epoch_steps = steps;
    settings.checkpoint_steps = 2;
    TuneRequest { name: "试".into(), base: None, dataset: "examples".into(), settings }
}

/// Waits for a job's state; a thread changes it.
fn until(tuner: &Tuner, id: &str, wanted: impl Fn(&TuneJob) -> bool) -> TuneJob {
    loop {
        let job = tuner.job(id).unwrap();
        if wanted(&job) {
            return job;
        }
        assert!(!matches!(job.state, TuneState::Failed(_)), "{:?}", job.state);
        std::thread::yield_now();
    }
}

#[test]
fn a_job_runs_to_its_end_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let tuner = Tuner::open(config(dir.path())).unwrap();
    let made = tuner.add_dataset("examples", &examples(dir.path())).unwrap();
    assert_eq!((made.documents, tuner.datasets().unwrap().len()), (200, 1));
    let (_, shown) = tuner.preview("examples", 3).unwrap();
    assert!(
        shown.len() == 3 && shown[0].text.starts_with("User: tree") && shown[0].counted < shown[0].tokens
    );
    let pair = tuner.convert("examples", 2, 64, 1).unwrap();
    assert_eq!((pair.documents, pair.tokens), (200, 2 * made.tokens));

    let request = request(&tuner, 5);
    let estimate = tuner.estimate(&request).unwrap();
    assert_eq!((estimate.steps, estimate.trained_values), (5, 12 * 128 * 8));
    let id = tuner.start(&request).unwrap().id;
    let job = until(&tuner, &id, |job| job.state == TuneState::Done);
    assert_eq!((job.step, job.steps, job.last.unwrap().step), (5, 5, 5));
    assert_eq!(job.outputs, ["rwkv-1.pth", "rwkv-1.pth.json"]);
    assert!(tuner.output(&id, "rwkv-1.pth").unwrap().is_file());
    for name in ["job.json", "../job.json", "/etc/passwd"] {
        assert!(matches!(tuner.output(&id, name), Err(Error::NotFound { .. })), "{name}");
    }
    let points = tuner.points(&id, 2, 2).unwrap();
    assert_eq!(points.iter().map(|point| point.step).collect::<Vec<_>>(), [3, 4]);
    assert!(points.iter().all(|point| point.loss > 0.0 && point.tokens_per_s > 0.0));
    assert_eq!(tuner.merge(&id).unwrap(), "merged-rwkv-1.pth");
    assert!(tuner.output(&id, "merged-rwkv-1.pth").unwrap().is_file());

    drop(tuner);
    let tuner = Tuner::open(config(dir.path())).unwrap();
    assert_eq!(tuner.job(&id).unwrap().state, TuneState::Done);
    tuner.delete(&id).unwrap();
    tuner.delete_dataset("examples").unwrap();
    assert!(tuner.jobs().unwrap().is_empty() && tuner.datasets().unwrap().is_empty());
}

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Tracker for Told {
    fn begin(&self, job: &TuneJob) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} begins after {} of {}", job.request.name, job.step, job.steps));
    }

    fn point(&self, _: &str, point: &TunePoint) {
        self.0.lock().unwrap().push(format!("{}", point.step));
    }

    fn end(&self, _: &str, end: End) {
        self.0.lock().unwrap().push(format!("{end:?}"));
    }
}

#[test]
fn who_follows_is_told_of_every_update_and_wandb_has_a_folder_of_each_run() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Told::default());
    let followed =
        TunerConfig { wandb: Some("项目".to_owned()), tracker: Some(told.clone()), ..config(dir.path()) };
    let tuner = Tuner::open(followed).unwrap();
    tuner.add_dataset("examples", &examples(dir.path())).unwrap();
    let id = tuner.start(&request(&tuner, 3)).unwrap().id;
    until(&tuner, &id, |job| job.state == TuneState::Done);
    assert_eq!(*told.0.lock().unwrap(), ["试 begins after 0 of 3", "1", "2", "3", "Done"]);
    let folders = dir.path().join("tuning/jobs").join(&id).join("wandb");
    let folders: Vec<_> = fs_err::read_dir(folders).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1);
    assert!(folders[0].join(format!("run-{id}.wandb")).is_file());
}

#[test]
fn stopped_resumed_and_restarted_is_one_curve() {
    let dir = tempfile::tempdir().unwrap();
    let tuner = Tuner::open(config(dir.path())).unwrap();
    tuner.add_dataset("examples", &examples(dir.path())).unwrap();
    let wanted = request(&tuner, 40);
    let whole = tuner.start(&wanted).unwrap().id;
    until(&tuner, &whole, |job| job.state == TuneState::Done);

    let id = tuner.start(&wanted).unwrap().id;
    until(&tuner, &id, |job| job.step >= 3);
    tuner.stop(&id).unwrap();
    let stopped = until(&tuner, &id, |job| job.state != TuneState::Running);
    assert_eq!(stopped.state, TuneState::Stopped);
    assert!(matches!(tuner.stop(&id), Err(Error::Conflict { .. })));
    tuner.resume(&id).unwrap();
    until(&tuner, &id, |job| job.step > stopped.step);
    // The process ends while the job runs.
    drop(tuner);
    let tuner = Tuner::open(config(dir.path())).unwrap();
    until(&tuner, &id, |job| job.state == TuneState::Done);
    let losses =
        |id: &str| tuner.points(id, 0, 1_000).unwrap().iter().map(|p| (p.step, p.loss)).collect::<Vec<_>>();
    assert_eq!(losses(&id).len(), 40);
    assert_eq!(losses(&id), losses(&whole));
}

/// As after `kill -9`: the file says running, the last lines of the curve are of updates that are lost.
#[test]
fn a_killed_job_goes_on_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let tuner = Tuner::open(config(dir.path())).unwrap();
    tuner.add_dataset("examples", &examples(dir.path())).unwrap();
    let id = tuner.start(&request(&tuner, 6)).unwrap().id;
    let done = until(&tuner, &id, |job| job.state == TuneState::Done);
    let curve: Vec<f64> = tuner.points(&id, 0, 100).unwrap().iter().map(|p| p.loss).collect();
    let folder = tuner.shared.job_dir(&id);
    drop(tuner);
    kept::write(&folder, &TuneJob { state: TuneState::Running, ..done }).unwrap();
    fs_err::remove_file(folder.join("checkpoint-00000006.safetensors")).unwrap();
    let mut lines = fs_err::read_to_string(folder.join("points.jsonl")).unwrap();
    lines.push_str("{\"step\": 7, \"lo");
    fs_err::write(folder.join("points.jsonl"), lines).unwrap();
    let tuner = Tuner::open(config(dir.path())).unwrap();
    until(&tuner, &id, |job| job.state == TuneState::Done);
    let again: Vec<f64> = tuner.points(&id, 0, 100).unwrap().iter().map(|p| p.loss).collect();
    assert_eq!(again, curve);
}

#[test]
fn what_cannot_run_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let tuner = Tuner::open(config(dir.path())).unwrap();
    for name in ["", "../x", "a/b", ".hidden", "x y"] {
        assert!(
            matches!(tuner.add_dataset(name, "{\"text\": \"a\"}"), Err(Error::InvalidInput { .. })),
            "{name}"
        );
    }
    let error = tuner.add_dataset("bad", "{\"text\": 1}\nnonsense\n").unwrap_err();
    assert!(matches!(&error, Error::InvalidInput { message } if message.contains("2 bad lines")), "{error}");
    tuner.add_dataset("examples", &examples(dir.path())).unwrap();
    let good = request(&tuner, 2);
    let huge = TuneSettings { micro_batch: 4_096, context_tokens: 1 << 20, ..good.settings.clone() };
    let error = tuner.start(&TuneRequest { settings: huge, ..good.clone() }).unwrap_err();
    assert!(matches!(&error, Error::Unavailable { message } if message.contains("MiB are free")), "{error}");
    for (base, dataset) in
        [(Some("none.pth"), "examples"), (Some("../../etc/passwd"), "examples"), (None, "other")]
    {
        let asked = TuneRequest { base: base.map(str::to_owned), dataset: dataset.into(), ..good.clone() };
        assert!(matches!(tuner.start(&asked), Err(Error::NotFound { .. })), "{base:?} {dataset}");
    }
    assert!(matches!(
        tuner.start(&TuneRequest { name: " ".into(), ..good.clone() }),
        Err(Error::InvalidInput { .. })
    ));
    assert!(matches!(tuner.job("tune-0"), Err(Error::NotFound { .. })));

    // One runs, two wait, the next is refused; what a job needs stays.
    let long = request(&tuner, 10_000);
    let running = tuner.start(&long).unwrap().id;
    until(&tuner, &running, |job| job.state == TuneState::Running);
    let waiting = [tuner.start(&good).unwrap().id, tuner.start(&good).unwrap().id];
    assert!(matches!(tuner.start(&good), Err(Error::Busy { .. })));
    assert!(matches!(tuner.delete_dataset("examples"), Err(Error::Conflict { .. })));
    assert!(matches!(tuner.delete(&running), Err(Error::Conflict { .. })));
    assert!(matches!(tuner.resume(&waiting[0]), Err(Error::Conflict { .. })));
    assert_eq!(tuner.stop(&waiting[0]).unwrap().state, TuneState::Stopped);
    tuner.delete(&waiting[0]).unwrap();
    tuner.stop(&running).unwrap();
    until(&tuner, &waiting[1], |job| job.state == TuneState::Done);
}
