//! Everything that is kept beside the catalogue, behind the fault as the other ports are.

use async_trait::async_trait;
use rag_core::Result;
use rag_core::document::{BlobHash, Chunk, ChunkId, DocumentId};
use rag_core::kb::KbName;
use rag_core::ports::{
    Accounts, AuditEntry, AuditQuery, Conversation, ConversationKey, ConversationQuery, Conversations,
    Curation, DocumentInfo, DocumentQuery, Evaluations, FolderEntry, FolderFile, Folders, Generation,
    GenerationState, Generations, Job, JobId, Mark, NewGeneration, NewRound, Outcome, Principal, Question,
    QuestionSet, Queue, Records, Rights, Round, Run, RunSettings, Scores, Stored, SwapReport, UnusedIndex,
    User, UserChange,
};
use rag_core::search::Filter;

use crate::fault::Faulty;

macro_rules! behind_the_fault {
    ($port:ident: $($method:ident($($argument:ident: $type:ty),*) -> $value:ty;)*) => {
        #[async_trait]
        impl $port for Faulty<dyn Records> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$value> {
                self.fault.step(self.inner.$method($($argument),*)).await
            })*
        }
    };
}

behind_the_fault! { Generations:
    generations(kb: &KbName, limit: u32) -> Vec<Generation>;
    generation(kb: &KbName, number: u64) -> Generation;
    stage_generation(kb: &KbName, new: &NewGeneration) -> Generation;
    assign_generation(kb: &KbName, number: u64, job: &JobId) -> Generation;
    ready_generation(kb: &KbName, number: u64, report: &SwapReport) -> Generation;
    publish_generation(kb: &KbName, number: u64, probation_ms: u64) -> Generation;
    end_generation(kb: &KbName, number: u64, state: GenerationState, reason: &str) -> Generation;
    roll_back(kb: &KbName, live: u64, reason: &str, probation_only: bool) -> Generation;
    index_gaps(kb: &KbName, collection: &str, limit: u32) -> (Vec<DocumentInfo>, u64);
    trim_index(kb: &KbName, collection: &str) -> Vec<BlobHash>;
    index_counts(kb: &KbName, collection: &str) -> (u64, u64, u64);
    unused_indexes(kb: &KbName) -> Vec<UnusedIndex>;
    drop_index(kb: &KbName, collection: &str) -> bool;
    indexes(kb: &KbName) -> Vec<UnusedIndex>;
    recent_questions(kb: &KbName, limit: u32) -> Vec<String>;
}

behind_the_fault! { Queue:
    set_priority(id: &JobId, priority: i32) -> Job;
    pause(id: &JobId) -> Job;
    resume(id: &JobId) -> Job;
    postpone(id: &JobId, reason: &str, wait_ms: u64) -> ();
    interrupted(id: &JobId) -> ();
}

behind_the_fault! { Curation:
    find_documents(kb: &KbName, query: &DocumentQuery) -> Vec<DocumentInfo>;
    disable_document(id: &DocumentId) -> ();
    chunk(kb: &KbName, id: &ChunkId) -> Stored;
    disable_chunk(id: &ChunkId) -> ();
    keep_vectors(chunks: &[ChunkId]) -> ();
    enable_document(id: &DocumentId, job: &JobId) -> ();
    enable_chunk(id: &ChunkId) -> ();
    replace_chunk(old: &ChunkId, new: &Chunk) -> ();
    resolve_filter(kb: &KbName, collection: &str, filter: &Filter) -> Filter;
    set_metadata(id: &DocumentId, metadata: &[(String, String)]) -> ();
}

behind_the_fault! { Conversations:
    conversations(query: &ConversationQuery) -> Vec<Conversation>;
    conversation(key: &ConversationKey) -> Conversation;
    rename_conversation(key: &ConversationKey, title: &str) -> Conversation;
    delete_conversation(key: &ConversationKey) -> ();
    append_round(key: &ConversationKey, round: &NewRound) -> u64;
    rounds(key: &ConversationKey, before: Option<u64>, limit: u32) -> Vec<Round>;
    mark_round(key: &ConversationKey, round: u64, mark: Option<Mark>, note: Option<&str>) -> Round;
    marked_rounds(kb: &KbName, before: Option<u64>, limit: u32) -> Vec<Round>;
}

behind_the_fault! { Evaluations:
    question_sets(kb: &KbName) -> Vec<QuestionSet>;
    question_set(id: &str) -> QuestionSet;
    create_question_set(kb: &KbName, name: &str, questions: &[Question]) -> QuestionSet;
    replace_question_set(id: &str, name: &str, questions: &[Question]) -> QuestionSet;
    delete_question_set(id: &str) -> ();
    questions(set: &str) -> Vec<Question>;
    create_run(set: &str, settings: &RunSettings) -> Run;
    assign_run(id: &str, job: &JobId) -> Run;
    runs(set: &str) -> Vec<Run>;
    run(id: &str) -> Run;
    delete_run(id: &str) -> ();
    finish_run(id: &str, scores: &Scores, outcomes: &[Outcome]) -> ();
    outcomes(run: &str) -> Vec<Outcome>;
}

behind_the_fault! { Accounts:
    users() -> Vec<User>;
    create_user(name: &str, password: &str, rights: &Rights) -> User;
    update_user(id: &str, change: &UserChange) -> User;
    delete_user(id: &str) -> ();
    check_password(name: &str, password: &str) -> Option<Principal>;
    user_principal(id: &str) -> Option<Principal>;
    audit(entry: &AuditEntry) -> ();
    audit_log(query: &AuditQuery) -> Vec<(u64, AuditEntry)>;
}

behind_the_fault! { Folders:
    roots() -> Vec<String>;
    list_folder(path: &str, limit: u32) -> Vec<FolderEntry>;
    files_under(path: &str, limit: u32) -> Vec<FolderEntry>;
    open_file(path: &str) -> Box<dyn FolderFile>;
}
