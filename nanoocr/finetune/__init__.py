"""Fine-tuning on pages of one's own: from documents with texts to a model that is proven to read better.

sources.py, boxes.py, hdf5.py   what lies on disk -> documents with truths
strips.py, align.py, store.py   documents -> strips of lines with truths, by boxes or by what the model reads
agreement.py                    do the texts belong to the pictures at all?
plan.py, task.py                who trains, who watches, who measures; own strips mixed with drawn ones
measure.py, report.py           before and after, side by side
run.py                          all of it in order, and again from where it was stopped
push.py                         the finished folder on a hub
"""
