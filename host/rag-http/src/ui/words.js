// What the page says, in Chinese and English.

const words = {
  zh: {
    language: "English",
    theme: "明暗",
    loginTitle: "登录",
    loginHelp: "输入密钥。管理员密钥在首次启动时显示一次。",
    key: "密钥",
    login: "登录",
    logout: "退出",
    kbs: "知识库",
    newKb: "新建知识库",
    name: "名称",
    nameRule: "3 到 33 个英文字母、数字或下划线，首尾不能是下划线。",
    create: "创建",
    upload: "上传文档",
    drop: "把文件拖到这里，或选择文件",
    documents: "文档",
    noDocuments: "还没有文档。",
    more: "更多",
    remove: "删除",
    removeAsk: "删除“{0}”？之后的回答不会再引用它。",
    ask: "提问",
    fresh: "新对话",
    question: "输入问题",
    sendHint: "Ctrl+Enter 发送",
    send: "发送",
    stop: "停止",
    stopped: "（已停止）",
    demonstration: "回答由随附的小型演示模型生成，可能有误，请以引文为准。",
    sources: "引文",
    passage: "段落全文",
    recall: "召回列表（{0}）",
    rank: "名次",
    score: "得分",
    arms: "各路",
    text: "内容",
    page: "第 {0} 页",
    about: "{0} 个文档，{1} 个片段",
    sending: "正在上传",
    queued: "排队中",
    parse: "解析",
    chunk: "切分",
    embed: "向量化",
    commit: "写入",
    done: "完成",
    unchanged: "内容相同，无需处理",
    failed: "失败",
    cancelled: "已取消",
    retry: "重试",
    cancel: "取消",
    noAnswer: "服务器没有回应。",
    broken: "连接中断。",
  },
  en: {
    language: "中文",
    theme: "Light/dark",
    loginTitle: "Log in",
    loginHelp: "Enter a key. The administrator's key was shown once, at the first start.",
    key: "Key",
    login: "Log in",
    logout: "Log out",
    kbs: "Knowledge base",
    newKb: "New knowledge base",
    name: "Name",
    nameRule: "3 to 33 ASCII letters, digits and underscores, no underscore at either end.",
    create: "Create",
    upload: "Upload documents",
    drop: "Drop files here, or choose them",
    documents: "Documents",
    noDocuments: "No documents yet.",
    more: "More",
    remove: "Delete",
    removeAsk: "Delete “{0}”? No answer will cite it any more.",
    ask: "Ask",
    fresh: "New conversation",
    question: "Type a question",
    sendHint: "Ctrl+Enter sends",
    send: "Send",
    stop: "Stop",
    stopped: "(stopped)",
    demonstration: "A small demonstration model wrote this answer. It may be wrong: trust the quotes.",
    sources: "Sources",
    passage: "Whole passage",
    recall: "Recall list ({0})",
    rank: "Rank",
    score: "Score",
    arms: "Arms",
    text: "Text",
    page: "page {0}",
    about: "{0} documents, {1} chunks",
    sending: "Uploading",
    queued: "Queued",
    parse: "Parsing",
    chunk: "Cutting",
    embed: "Embedding",
    commit: "Writing",
    done: "Done",
    unchanged: "Same content: nothing to do",
    failed: "Failed",
    cancelled: "Cancelled",
    retry: "Try again",
    cancel: "Cancel",
    noAnswer: "The server does not answer.",
    broken: "The connection broke.",
  },
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
if (!(language in words)) language = "en";

/** The text under a name, with {0}, {1}, … filled in. */
export function say(name, ...values) {
  return values.reduce((text, value, i) => text.replace(`{${i}}`, () => String(value)), words[language][name] ?? name);
}

/** Writes every fixed text of the page. */
export function sayAll() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-hint]")) element.placeholder = say(element.dataset.hint);
  document.getElementById("language").textContent = say("language");
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  sayAll();
}
