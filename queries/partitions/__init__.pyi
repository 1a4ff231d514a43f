from .asked import EVERYTHING as EVERYTHING
from .asked import Asked as Asked
from .asked import Partition as Partition
from .asked import Tree as Tree
from .asked import asked_of as asked_of
from .asked import chosen as chosen
