// What the shipped plugins are, in Chinese; a component's own description is English.

export const pluginsZh: Record<string, string> = {
  "chunk-fixed": "按固定字数的窗口切分，与 RWKV-RAG 相同。",
  "chunk-lines": "每个非空行成为一个片段，与 RWKV-RAG 处理录入文本的方式相同。",
  "chunk-recursive": "先按段落，再按行、句、分句和字符切分，直到大小合适。",
  "chunk-sentence": "把完整的中英文句子装入标题之下的片段。",
  "connector-web": "通过 SearXNG、维基百科、百度百科或任何支持 OpenSearch 的引擎搜索网络。",
  "parse-html": "读取 HTML：正文的标题、段落、列表、表格和代码，自动识别编码。",
  "parse-image": "请主机识别文字，读取图片中的文本（PNG、JPEG、TIFF、WebP）。",
  "parse-markdown": "读取 Markdown：标题、段落、列表、表格、代码和引用，与文件中一致。",
  "parse-office": "读取 docx 和 pptx：按样式识别标题，以及列表、表格、注释和按顺序的幻灯片。",
  "parse-pdf": "读取 PDF：按阅读顺序的文本与页码、按字号识别的标题、有框线的表格；扫描页经文字识别。",
  "parse-sheet": "读取 xlsx、xlsb、xls、ods 和 csv：表头下的各行、公式的值、日期。",
  "parse-text": "逐段读取纯文本，支持 UTF-8、UTF-16、GB18030、Big5 等编码。",
  "retrieve-dense": "找出向量与问题最接近的片段，与 RWKV-RAG 相同。",
  "retrieve-hybrid": "按语义和按词语检索，综合两者排序。",
  "retrieve-hyde": "先让语言模型猜一个答案，再检索与它相似的段落。",
  "retrieve-mmr": "按语义和按词语检索，优先内容不重复的片段。",
  "retrieve-multi-query": "让语言模型换几种问法，全部检索。",
  "store-local": "向量存放在主机自带的存储中：持久、精确检索、无需安装。",
};
