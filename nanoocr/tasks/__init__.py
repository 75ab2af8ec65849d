"""Data sets, one short file each: a `Task` says how many rows there are and what row i is.

`nanoocr.tasks.choose.make_task` makes one from a text such as `NAME:WHAT?key=value&key=value`:

    finevision:SUBSET         FineVision, any of its subsets; rating filters, DocTags as markdown
    olmocr_mix:SPLIT          olmOCR-mix tables with ?pdfs=FOLDER, or a folder of .md beside .pdf
    llava_instruct:FILE.json  LLaVA-Instruct-150K with ?images=FOLDER
    chartqa docvqa textvqa    the hub's copies; chartqa:FOLDER is the original layout
    sroie:FOLDER              scanned receipts: text, key fields, or both
    smoltalk mmlu gsm8k       text conversations and questions
    plain_text:SUBSET         FineWeb and the like: documents without a question
    synth:KIND                the project's own pictures, drawn live
    folder:FOLDER             pictures or PDFs with a .txt or .md of the same name beside them
    jsonl:FILE                chat rows of other trainers: messages + images, or conversations
    parquet:PATH              shards in FineVision's schema as they are

Every task takes start, stop and step. Those that live on the hub also take path (a folder on disk instead of
the hub), split, revision, shards (only the first n), cache and max_gb. `python -m scripts.data_look
--task=...` shows what comes out.

The licences are the data sets' own. A row that cannot be used raises BadRowError with its name; nothing is
repaired in silence.
"""
