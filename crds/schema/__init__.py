"""CustomResourceDefinitions of Istio's kinds, made from the models and, where a kind has none yet, from data here.

Pure: tools/crds.py writes what ``definition.all_kinds`` gives into the folder crds/ and into the chart base.
"""
