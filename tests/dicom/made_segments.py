"""What the tests of SEG objects call their segments."""

from clinibundle.dicom.codes import Algorithm, Code, Segment

ANATOMY = Code(value="123037004", scheme="SCT", meaning="Anatomical Structure")
LUNG = Segment(label=1, name="Lung", category=ANATOMY, type=Code(value="39607008", scheme="SCT", meaning="Lung"))
HEART = Segment(label=2, name="Heart", category=ANATOMY, type=Code(value="80891009", scheme="SCT", meaning="Heart"))
ALGORITHM = Algorithm(name="lung_xray", version="0.3.1", weights_sha256="ab" * 32, software_version="0.1.9")
