"""Builders of the data sets that the models of `modeling_astrobio` are trained on.

`python -m data_scripts list` names the data sets, `python -m data_scripts build NAME --out DIR` writes one as a
folder that `datasets.load_dataset` opens.
"""
