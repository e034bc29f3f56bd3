//! Users, the audit log, question sets and runs in memory.

use super::*;

#[async_trait]
impl Accounts for Fake {
    async fn users(&self) -> Result<Vec<User>> {
        Ok(self.kept().users.iter().map(|(user, _)| user.clone()).collect())
    }
    async fn create_user(&self, name: &str, password: &str, rights: &Rights) -> Result<User> {
        let mut kept = self.kept();
        if kept.users.iter().any(|(user, _)| user.name == name) {
            return Err(Error::Conflict { message: format!("there is a user '{name}' already") });
        }
        let id = format!("user-{}", kept.users.len());
        let user = User { id, name: name.to_owned(), rights: rights.clone(), disabled: false, created_ms: 1 };
        kept.users.push((user.clone(), password.to_owned()));
        Ok(user)
    }
    async fn update_user(&self, id: &str, change: &UserChange) -> Result<User> {
        let mut kept = self.kept();
        let found = kept.users.iter_mut().find(|(user, _)| user.id == id);
        let (user, password) = found.ok_or_else(|| missing("user", id))?;
        user.rights = change.rights.clone().unwrap_or(user.rights.clone());
        user.disabled = change.disabled.unwrap_or(user.disabled);
        *password = change.password.clone().unwrap_or(password.clone());
        Ok(user.clone())
    }
    async fn delete_user(&self, id: &str) -> Result<()> {
        let mut kept = self.kept();
        let at = kept.users.iter().position(|(user, _)| user.id == id);
        kept.users.remove(at.ok_or_else(|| missing("user", id))?);
        Ok(())
    }
    async fn check_password(&self, name: &str, password: &str) -> Result<Option<Principal>> {
        let kept = self.kept();
        let found = kept.users.iter().find(|(user, known)| user.name == name && known == password);
        Ok(found.filter(|(user, _)| !user.disabled).map(|(user, _)| principal(user)))
    }
    async fn user_principal(&self, id: &str) -> Result<Option<Principal>> {
        let kept = self.kept();
        let found = kept.users.iter().find(|(user, _)| user.id == id && !user.disabled);
        Ok(found.map(|(user, _)| principal(user)))
    }
    async fn audit(&self, entry: &AuditEntry) -> Result<()> {
        self.kept().audit.push(entry.clone());
        Ok(())
    }
    async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditEntry)>> {
        let kept = self.kept();
        let all = kept.audit.iter().cloned().enumerate().rev().map(|(at, entry)| (at as u64 + 1, entry));
        let wanted = all.filter(|(id, entry)| {
            query.before.is_none_or(|before| *id < before)
                && query.actor.as_ref().is_none_or(|actor| entry.actor == *actor)
        });
        Ok(wanted.take(query.limit as usize).collect())
    }
}

fn principal(user: &User) -> Principal {
    Principal {
        key_id: user.id.clone(),
        name: user.name.clone(),
        rights: user.rights.clone(),
        created_ms: user.created_ms,
    }
}

#[async_trait]
impl Evaluations for Fake {
    async fn question_sets(&self, kb: &KbName) -> Result<Vec<QuestionSet>> {
        let kept = self.catalog()?;
        Ok(kept.sets.iter().filter(|(set, _)| set.kb == *kb).map(|(set, _)| set.clone()).collect())
    }
    async fn question_set(&self, id: &str) -> Result<QuestionSet> {
        let kept = self.catalog()?;
        let found = kept.sets.iter().find(|(set, _)| set.id == id);
        found.map(|(set, _)| set.clone()).ok_or_else(|| missing("question set", id))
    }
    async fn create_question_set(
        &self,
        kb: &KbName,
        name: &str,
        questions: &[Question],
    ) -> Result<QuestionSet> {
        rag_core::evaluate::check(questions)?;
        let mut kept = self.catalog()?;
        let set = QuestionSet {
            id: format!("set{}", kept.sets.len()),
            kb: kb.clone(),
            name: name.to_owned(),
            questions: questions.len() as u64,
            created_ms: 1,
        };
        kept.sets.push((set.clone(), questions.to_vec()));
        Ok(set)
    }
    async fn replace_question_set(
        &self,
        id: &str,
        name: &str,
        questions: &[Question],
    ) -> Result<QuestionSet> {
        rag_core::evaluate::check(questions)?;
        let mut kept = self.catalog()?;
        let found = kept.sets.iter_mut().find(|(set, _)| set.id == id);
        let (set, held) = found.ok_or_else(|| missing("question set", id))?;
        (set.name, set.questions) = (name.to_owned(), questions.len() as u64);
        *held = questions.to_vec();
        Ok(set.clone())
    }
    async fn delete_question_set(&self, id: &str) -> Result<()> {
        let mut kept = self.catalog()?;
        kept.sets.retain(|(set, _)| set.id != id);
        kept.runs.retain(|(run, _)| run.set != id);
        Ok(())
    }
    async fn questions(&self, set: &str) -> Result<Vec<Question>> {
        let kept = self.catalog()?;
        let found = kept.sets.iter().find(|(known, _)| known.id == set);
        found.map(|(_, questions)| questions.clone()).ok_or_else(|| missing("question set", set))
    }
    async fn create_run(&self, set: &str, settings: &RunSettings) -> Result<Run> {
        let kb = self.question_set(set).await?.kb;
        let mut kept = self.catalog()?;
        let run = Run {
            id: format!("run{}", kept.runs.len()),
            set: set.to_owned(),
            kb,
            settings: settings.clone(),
            job: None,
            scores: None,
            created_ms: 1,
        };
        kept.runs.push((run.clone(), Vec::new()));
        Ok(run)
    }
    async fn assign_run(&self, id: &str, job: &JobId) -> Result<Run> {
        let mut kept = self.catalog()?;
        let (run, _) =
            kept.runs.iter_mut().find(|(run, _)| run.id == id).ok_or_else(|| missing("run", id))?;
        run.job = Some(job.clone());
        Ok(run.clone())
    }
    async fn runs(&self, set: &str) -> Result<Vec<Run>> {
        let kept = self.catalog()?;
        Ok(kept.runs.iter().rev().filter(|(run, _)| run.set == set).map(|(run, _)| run.clone()).collect())
    }
    async fn run(&self, id: &str) -> Result<Run> {
        let kept = self.catalog()?;
        let found = kept.runs.iter().find(|(run, _)| run.id == id);
        found.map(|(run, _)| run.clone()).ok_or_else(|| missing("run", id))
    }
    async fn delete_run(&self, id: &str) -> Result<()> {
        self.catalog()?.runs.retain(|(run, _)| run.id != id);
        Ok(())
    }
    async fn finish_run(&self, id: &str, scores: &Scores, outcomes: &[Outcome]) -> Result<()> {
        let mut kept = self.catalog()?;
        let found = kept.runs.iter_mut().find(|(run, _)| run.id == id);
        let (run, held) = found.ok_or_else(|| missing("run", id))?;
        run.scores = Some(scores.clone());
        *held = outcomes.to_vec();
        Ok(())
    }
    async fn outcomes(&self, run: &str) -> Result<Vec<Outcome>> {
        let kept = self.catalog()?;
        let found = kept.runs.iter().find(|(known, _)| known.id == run);
        Ok(found.map(|(_, outcomes)| outcomes.clone()).unwrap_or_default())
    }
}
