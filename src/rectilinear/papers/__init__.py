"""Papers, a folder each and in it a file a figure: ``compute`` makes data, ``draw`` a picture,
``claims`` numbers.
"""
